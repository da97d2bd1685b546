import numpy as np

from engine.ragged import Row, lay_out


def row(prompt, *branches):
    return Row(np.array(prompt, np.int32), tuple(np.array(branch, np.int32) for branch in branches))


def test_a_prompt_stands_once_and_its_branches_go_on_from_it():
    layout = lay_out([row([1, 2], [3], [4, 5]), row([6], [7])])
    assert layout.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert layout.positions.tolist() == [0, 1, 2, 2, 3, 0, 1]
    # After the prompt, and after each token of the branch.
    assert layout.readings.tolist() == [1, 2, 1, 3, 4, 5, 6]


def test_a_branch_without_a_prompt_has_a_first_reading_without_meaning():
    layout = lay_out([row([], [3, 4])])
    assert layout.positions.tolist() == [0, 1]
    assert layout.readings.tolist() == [0, 0, 1]


def test_the_tokens_of_a_row_count_its_prompt_once():
    assert row([1, 2, 3], [4], [5, 6]).tokens == 6
