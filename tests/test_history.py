"""ezflow/history.py: a conversation that is bounded in messages and in characters."""

from ezflow.history import History, Message


def words(history: History) -> list[str]:
    return [message.content for message in history.messages]


def test_messages_are_kept_oldest_first():
    history = History()
    history.add(Message("user", "hi"))
    history.add(Message("assistant", "hello", cut=True))
    assert history.messages == (Message("user", "hi"), Message("assistant", "hello", cut=True))


def test_the_oldest_message_makes_room_for_a_new_one():
    history = History(max_messages=3)
    for number in range(5):
        history.add(Message("user", str(number)))
    assert words(history) == ["2", "3", "4"]


def test_characters_are_bounded_over_all_messages():
    history = History(max_chars=10)
    for content in ("aaaa", "bbbb", "cc"):
        history.add(Message("user", content))
    assert words(history) == ["aaaa", "bbbb", "cc"]
    history.add(Message("assistant", "d"))
    assert words(history) == ["bbbb", "cc", "d"]
    history.add(Message("user", "e" * 10))
    assert words(history) == ["e" * 10]


def test_a_message_longer_than_the_bound_keeps_its_end():
    history = History(max_chars=4)
    history.add(Message("assistant", "abcdefgh", cut=True))
    assert history.messages == (Message("assistant", "efgh", cut=True),)


def test_many_messages_leave_no_drift_in_the_count():
    history = History(max_messages=7, max_chars=50)
    for number in range(1000):
        history.add(Message("user", "x" * (number % 60)))
        assert len(history.messages) <= 7
        assert sum(map(len, words(history))) <= 50
    history.clear()
    history.add(Message("user", "y" * 50))
    assert words(history) == ["y" * 50]


def test_what_was_read_does_not_change_later():
    history = History()
    history.add(Message("user", "a"))
    before = history.messages
    history.add(Message("user", "b"))
    assert before == (Message("user", "a"),)
