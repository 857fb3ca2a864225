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


def test_what_was_added_since_is_told_as_far_as_it_is_held():
    history = History(max_messages=3)
    for number in range(5):
        history.add(Message("user", str(number)))
    assert (history.changes, [m.content for m in history.since(3)]) == (5, ["3", "4"])
    assert [m.content for m in history.since(0)] == ["2", "3", "4"]
    assert history.since(5) == []
    history.clear()
    history.add(Message("user", "x"))
    assert (history.changes, history.cleared) == (7, 6)
    assert [m.content for m in history.since(4)] == [m.content for m in history.since(6)] == ["x"]


def test_older_messages_come_before_what_is_held_as_far_as_there_is_room():
    history = History(max_messages=4, max_chars=6)
    history.add(Message("user", "ee"))
    history.recall([Message("user", content) for content in ("a", "bbb", "cc", "dd")])
    assert words(history) == ["cc", "dd", "ee"]
    history.add(Message("user", "f"))
    assert words(history) == ["dd", "ee", "f"]


def test_nothing_is_put_before_a_gap():
    history = History(max_chars=6)
    for content in ("aaaa", "bb", "cc"):
        history.add(Message("user", content))
    history.recall([Message("user", "x")])
    assert words(history) == ["bb", "cc"]


def test_the_oldest_messages_expire_up_to_the_first_that_is_young():
    history = History(max_chars=10)
    for content, at in (("aaa", 1.0), ("bbb", 3.0), ("ccc", 2.0)):
        history.add(Message("user", content, at=at))
    history.expire(3.0)
    assert words(history) == ["bbb", "ccc"]
    history.add(Message("user", "dddd", at=4.0))
    assert words(history) == ["bbb", "ccc", "dddd"]


def test_messages_that_say_the_same_at_other_times_are_equal():
    assert Message("user", "a", at=1.0) == Message("user", "a", at=2.0)
    assert len({Message("user", "a", at=1.0), Message("user", "a", at=2.0)}) == 1
