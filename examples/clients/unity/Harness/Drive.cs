using System;
using System.Collections.Generic;
using System.Threading.Tasks;

namespace Ezflow.Harness
{
    /// <summary>
    /// `Drive.exe URL USER [TOKEN]`: does what the lines of its standard input say, one JSON object each, and prints what
    /// comes of it, a line each; ends when its input has and the turn is over. `"hold": true` leaves the events in their
    /// queues until `take`.
    /// </summary>
    internal sealed class Drive
    {
        private readonly EzflowClient client;
        private Turn turn;
        private Task printing = Task.CompletedTask;

        private Drive(EzflowClient client)
        {
            this.client = client;
        }

        private static void Main(string[] arguments)
        {
            using (var client = new EzflowClient(arguments[0], arguments[1], arguments.Length > 2 ? arguments[2] : null))
            {
                var drive = new Drive(client);
                string line;
                while ((line = Console.ReadLine()) != null)
                    drive.Do(Json.ReadObject(line)).GetAwaiter().GetResult();
                drive.printing.GetAwaiter().GetResult();
                drive.turn?.Cancel();
            }
        }

        private async Task Do(Dictionary<string, object> command)
        {
            var request = new TurnRequest { Entry = EventReader.Maybe<object>(command, "entry") };
            request.Options = EventReader.Maybe<Dictionary<string, object>>(command, "options");
            request.Timeline = EventReader.Maybe<bool>(command, "timeline");
            switch (EventReader.Maybe<string>(command, "do"))
            {
                case "ask":
                    Begin(client.Ask(command["input"], request), command);
                    break;
                case "live":
                    Begin(client.Live(request), command);
                    break;
                case "input":
                    ((LiveTurn)turn).SendInput(command["input"], request.Entry);
                    break;
                case "sound":
                    ((LiveTurn)turn).Send(new byte[EventReader.Number(command, "bytes")]);
                    break;
                case "played":
                    ((LiveTurn)turn).Played(
                        new SoundEvent { TurnId = turn.Id, Seq = EventReader.Number(command, "seq") }, Convert.ToDouble(command["ms"]));
                    break;
                case "interrupt":
                    ((LiveTurn)turn).Interrupt();
                    break;
                case "end":
                    ((LiveTurn)turn).End();
                    break;
                case "cancel":
                    turn.Cancel();
                    await turn.Over;
                    break;
                case "take":
                    printing = PrintAll(turn);
                    break;
                case "count":
                    Print(new Dictionary<string, object> { ["texts"] = turn.Texts.Count, ["sounds"] = turn.Sounds.Count });
                    break;
                case "stop":
                    Print(new Dictionary<string, object> { ["stopped"] = await client.Interrupt() });
                    break;
                case "flow":
                    Print(await client.Flow());
                    break;
                case "schema":
                    Print(await client.Schema((string)command["of"]));
                    break;
                case "ready":
                    await client.Ready();
                    Print(new Dictionary<string, object> { ["ready"] = true });
                    break;
                default:
                    throw new ArgumentException("unknown: " + Json.Write(command));
            }
        }

        private void Begin(Turn begun, Dictionary<string, object> command)
        {
            turn = begun;
            if (!EventReader.Maybe<bool>(command, "hold"))
                printing = PrintAll(begun);
        }

        private static async Task PrintAll(Turn turn)
        {
            var reply = new Reply(turn);
            while (!turn.IsDrained)
            {
                var changed = turn.Changed();
                reply.Take();
                foreach (var came in reply.Events)
                    Print(Described(came));
                reply.Events.Clear();
                if (!turn.IsDrained)
                    await changed;
            }
            Print(Described(turn));
        }

        private static Dictionary<string, object> Described(TurnEvent came)
        {
            var line = new Dictionary<string, object>
            {
                ["type"] = came.Type, ["turn"] = came.TurnId, ["run"] = came.Run, ["seq"] = came.Seq, ["stage"] = came.Stage,
            };
            if (came is TextEvent text)
                line["text"] = text.Text;
            if (came is TranscriptEvent transcript)
                line["text"] = transcript.Text;
            if (came is SoundEvent sound)
                line["ms"] = sound.DurationMs;
            if (came is ErrorEvent error)
                line["message"] = error.Message;
            if (came is StageEvent stage)
                line["state"] = stage.State;
            if (came is DataEvent data)
                line["data"] = data.Data;
            return line;
        }

        private static Dictionary<string, object> Described(Turn turn)
        {
            var line = new Dictionary<string, object>
            {
                ["over"] = turn.Id, ["reason"] = turn.Ended?.Reason, ["failure"] = turn.Failure?.GetType().Name,
                ["message"] = turn.Failure?.Message,
            };
            if (turn.Failure is RefusedException refused)
            {
                line["status"] = refused.Status;
                line["error"] = refused.Error;
                line["path"] = refused.Path;
                line["retry_s"] = refused.RetryAfterSeconds;
            }
            if (turn.Failure is ClosedException closed)
            {
                line["code"] = closed.Code;
                line["closing"] = closed.Reason;
            }
            return line;
        }

        private static void Print(Dictionary<string, object> line)
        {
            lock (Console.Out)
            {
                Console.WriteLine(Json.Write(line));
                Console.Out.Flush();
            }
        }
    }
}
