"""What is bounded in all, at one address, and for one asker."""

from __future__ import annotations

from skep.network.quota import Quota


def taken(quota: Quota, listener: str, *askers: str) -> int:
    return sum(quota.take(listener, each) for each in askers)


def test_one_asker_leaves_the_rest_to_others() -> None:
    quota = Quota(8, 4, 2)
    assert taken(quota, "gateway", "a", "a", "a") == 2
    assert taken(quota, "other", "a") == 0, "wherever he asks"
    assert taken(quota, "gateway", "b") == 1


def test_made_up_addresses_have_no_more_than_their_network() -> None:
    quota = Quota(8, 4, 2)
    assert taken(quota, "gateway", *"abcdefgh") == 4
    assert taken(quota, "other", *"ijklmnop") == 4
    assert taken(quota, "third", "q") == 0, "there are no more in all"


def test_what_is_given_back_can_be_had_again() -> None:
    quota = Quota(2, 2, 1)
    for _ in range(5):
        assert taken(quota, "gateway", "a", "a", "b", "c") == 2
        quota.give_back("gateway", "a")
        assert taken(quota, "gateway", "c", "a") == 1
        quota.give_back("gateway", "b")
        quota.give_back("gateway", "c")
    quota.take("gateway", "a")
    quota.begin_anew()
    assert taken(quota, "gateway", "a", "b") == 2
