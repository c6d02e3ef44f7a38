"""The double behaves as a real API server does: what its own tests say of it is so there, too."""

from __future__ import annotations

from tests.kubernetes_double import test_double

OF_THE_DOUBLE = {
    "test_tokens_rights_and_faults",
    "test_a_connection_can_be_cut_after_the_write_was_done",
    "test_what_is_not_installed_is_not_found",
    "test_what_ends_a_part_of_the_double_is_told_to_who_waits_and_at_its_end",
    "test_a_handler_that_fails_is_told_at_the_end_of_the_double",
    # Since 1.25.
    "test_unknown_fields_are_refused_where_that_is_asked_for",
}
"""What is asked of the double alone."""

connection, core = test_double.connection, test_double.core
apps, batch = test_double.apps, test_double.batch
for _name in dir(test_double):
    if _name.startswith("test_") and _name not in OF_THE_DOUBLE:
        globals()[_name] = getattr(test_double, _name)
