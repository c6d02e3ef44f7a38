"""Changes of the one SeldonDeployment that all revisions of a serving are in, at a real API server."""

from __future__ import annotations

from tests.library.serving.backends import test_seldon_backend as at_the_double

backend = at_the_double.backend
for _name in (
    "test_revisions_are_predictors_of_one_deployment",
    "test_applying_again_changes_nothing",
    "test_a_change_that_came_between_is_not_lost",
    "test_a_predictor_that_came_before_the_deletion_of_the_last_one_stays",
):
    globals()[_name] = getattr(at_the_double, _name)
