"""Random programs whose arrays move between host and device at any time give NumPy's answers."""

from __future__ import annotations

import numpy
import pytest

import dispatcharr as np
from dispatcharr.storage import places
from dispatcharr.storage.exports import root_of
from programs import Program
from storing import StoringDevice, check_coherent, moved

pytestmark = pytest.mark.usefixtures("device")


class Moving(Program):
    """A program in which something else moves its arrays."""

    def do_move(self) -> None:
        ours, _ = self.pick()
        host = ours._value
        if type(host) is numpy.ndarray and host.size:
            root = root_of(host)
            if places.refusal(root) is None and places.state(root) != "device":
                moved(root, self.random.choice(["device", "both"]))

    do_move_often = do_move_too = do_move_again = do_move_on = do_move

    def do_see_whether_both_are_alike(self) -> None:
        check_coherent()


@pytest.mark.parametrize("seed", range(40))
def test_programs_whose_arrays_are_moved(seed: int) -> None:
    Moving(seed).run(150)
    check_coherent()


@pytest.mark.parametrize("seed", range(10))
def test_programs_that_wait(seed: int) -> None:
    Moving(seed, [lambda: np.dispatch_options(defer="always")]).run(150)
    check_coherent()


@pytest.mark.parametrize("seed", range(10))
def test_programs_where_there_is_little_room(seed: int, device: StoringDevice) -> None:
    device.room = 100_000

    class Crowded(Moving):
        def do_move(self) -> None:
            try:
                super().do_move()
            except MemoryError:
                self.said.append("no room")

    Crowded(seed).run(150)
    check_coherent()
