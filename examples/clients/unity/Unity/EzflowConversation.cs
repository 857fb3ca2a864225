using System;
using UnityEngine;
using UnityEngine.Events;

namespace Ezflow.Unity
{
    /// <summary>
    /// Drop it on a GameObject: hold a key and talk, or talk freely; the reply is heard and its words are shown.
    /// </summary>
    [RequireComponent(typeof(AudioSourceOutput))]
    [RequireComponent(typeof(MicrophoneInput))]
    public sealed class EzflowConversation : MonoBehaviour
    {
        [Tooltip("The server and a flow that is spoken to live.")]
        [SerializeField] private string url = "http://127.0.0.1:3421/live";
        [Tooltip("Whose conversation it is: one per player.")]
        [SerializeField] private string user = "player";
        [Tooltip("Where the server has tokens. Do not ship one in a game: fetch it from your own server and set Token.")]
        [SerializeField] private string token = "";
        [Tooltip("The stage that typed text goes to.")]
        [SerializeField] private string textEntry = "local_llm";
        [Tooltip("Listen all the time; else, while the key is held.")]
        [SerializeField] private bool handsFree;
        [SerializeField] private KeyCode talkKey = KeyCode.Space;
        [Tooltip("Do not listen while the reply is heard: needed with loudspeakers, as Unity cancels no echo.")]
        [SerializeField] private bool halfDuplex;

        [Header("What happens")]
        [SerializeField] private TextEvents onSubtitle = new TextEvents();
        [SerializeField] private TextEvents onUnderstood = new TextEvents();
        [SerializeField] private TextEvents onError = new TextEvents();

        private EzflowClient client;

        [Serializable]
        public sealed class TextEvents : UnityEvent<string>
        {
        }

        /// <summary>All that the fields above do not show; there while the component is enabled.</summary>
        public Conversation Conversation { get; private set; }

        /// <summary>Takes effect when the component is next enabled.</summary>
        public string Token
        {
            get { return token; }
            set { token = value; }
        }

        /// <summary>For a button of yours: pressed or released.</summary>
        public void Talk(bool on)
        {
            if (on && Conversation.IsAnswering)
                Conversation.Interrupt();
            Conversation.Talk(on);
        }

        /// <summary>For a text field of yours.</summary>
        public void Say(string text)
        {
            Conversation.Say(text);
        }

        /// <summary>For a stop button of yours.</summary>
        public void Interrupt()
        {
            Conversation.Interrupt();
        }

        private void OnEnable()
        {
            client = new EzflowClient(url, user, token);
            Conversation = new Conversation(client, GetComponent<AudioSourceOutput>(), GetComponent<MicrophoneInput>())
            {
                TextEntry = string.IsNullOrEmpty(textEntry) ? null : textEntry,
                HalfDuplex = halfDuplex,
            };
            Conversation.Subtitled += onSubtitle.Invoke;
            Conversation.Understood += transcript => onUnderstood.Invoke(transcript.Text);
            Conversation.Failed += error => onError.Invoke(error.Stage + ": " + error.Message);
            Conversation.Closed += failure =>
            {
                if (failure != null)
                    onError.Invoke(failure.Message);
            };
            if (handsFree)
                Conversation.Talk(true);
        }

        private void Update()
        {
            if (!handsFree)
                FollowKey();
            Conversation.Tick(Time.unscaledTimeAsDouble);
        }

        private void OnDisable()
        {
            Conversation.Dispose();
            client.Dispose();
        }

        private void FollowKey()
        {
#if ENABLE_LEGACY_INPUT_MANAGER
            if (Input.GetKeyDown(talkKey))
                Talk(true);
            if (Input.GetKeyUp(talkKey))
                Talk(false);
#endif
        }
    }
}
