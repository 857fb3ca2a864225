// What the components in examples/clients/unity/Unity use of UnityEngine, as Unity 2021.3's manual declares it, so that
// a compiler without Unity checks their syntax and their types. Nothing here runs.
using System;

namespace UnityEngine
{
    public enum KeyCode
    {
        None = 0,
        Space = 32,
    }

    public class Object
    {
        public static void Destroy(Object obj)
        {
        }
    }

    public class Component : Object
    {
        public GameObject gameObject
        {
            get { throw new NotSupportedException(); }
        }

        public T GetComponent<T>()
        {
            throw new NotSupportedException();
        }
    }

    public sealed class GameObject : Object
    {
        public T AddComponent<T>()
            where T : Component
        {
            throw new NotSupportedException();
        }
    }

    public class Behaviour : Component
    {
        public bool enabled { get; set; }
    }

    public class MonoBehaviour : Behaviour
    {
    }

    public sealed class AudioSource : Behaviour
    {
        public bool loop { get; set; }

        public AudioClip clip { get; set; }

        public void PlayScheduled(double time)
        {
        }

        public void Stop()
        {
        }
    }

    public sealed class AudioClip : Object
    {
        public int samples { get; private set; }

        public int channels { get; private set; }

        public static AudioClip Create(string name, int lengthSamples, int channels, int frequency, bool stream)
        {
            throw new NotSupportedException();
        }

        public bool SetData(float[] data, int offsetSamples)
        {
            throw new NotSupportedException();
        }

        public bool GetData(float[] data, int offsetSamples)
        {
            throw new NotSupportedException();
        }
    }

    public static class AudioSettings
    {
        public static double dspTime
        {
            get { throw new NotSupportedException(); }
        }
    }

    public static class Microphone
    {
        public static string[] devices
        {
            get { throw new NotSupportedException(); }
        }

        public static AudioClip Start(string deviceName, bool loop, int lengthSec, int frequency)
        {
            throw new NotSupportedException();
        }

        public static void End(string deviceName)
        {
        }

        public static int GetPosition(string deviceName)
        {
            throw new NotSupportedException();
        }

        public static void GetDeviceCaps(string deviceName, out int minFreq, out int maxFreq)
        {
            throw new NotSupportedException();
        }
    }

    public static class Mathf
    {
        public static int Clamp(int value, int min, int max)
        {
            throw new NotSupportedException();
        }
    }

    public static class Time
    {
        public static double unscaledTimeAsDouble
        {
            get { throw new NotSupportedException(); }
        }
    }

    public static class Input
    {
        public static bool GetKeyDown(KeyCode key)
        {
            throw new NotSupportedException();
        }

        public static bool GetKeyUp(KeyCode key)
        {
            throw new NotSupportedException();
        }
    }

    public static class Debug
    {
        public static void Log(object message)
        {
        }

        public static void LogError(object message)
        {
        }

        public static void LogWarning(object message)
        {
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class SerializeField : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string tooltip)
        {
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class HeaderAttribute : Attribute
    {
        public HeaderAttribute(string header)
        {
        }
    }

    [AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
    public sealed class RequireComponent : Attribute
    {
        public RequireComponent(Type requiredComponent)
        {
        }
    }
}

namespace UnityEngine.Events
{
    [Serializable]
    public class UnityEvent<T0>
    {
        public void Invoke(T0 arg0)
        {
        }
    }
}
