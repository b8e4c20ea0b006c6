"""Faults by number: what happens, and the tests that show what comes of it.

The name of a test is looked for in the test files; its number stands in front of a test that was written for
one fault alone. `None` with a reason: cannot be made here.
"""

from __future__ import annotations

__all__ = ["FAULTS"]

#: number: (the fault, tests as "file::name", or why there is none)
FAULTS: dict[int, tuple[str, list[str] | str]] = {
    1: ("a worker is killed under load", [
        "process/test_what_applications_do.py::test_f01_a_killed_worker_is_replaced_and_others_serve_on",
        "process/test_chaos.py::test_kill_loses_only_what_the_killed_worker_had_accepted"]),
    2: ("a fault in C code", [
        "process/test_what_applications_do.py::test_f02_a_segmentation_fault_costs_its_own_request_and_is_named",
        "process/test_recycling.py::test_the_request_that_crashed_a_worker_is_named"]),
    3: ("a worker is stopped", [
        "process/test_recycling.py::test_a_stuck_worker_is_found_dumped_and_replaced_and_gets_nobody_meanwhile"]),
    4: ("the kernel kills a worker for memory", [
        "faults/test_deaths.py::test_f04_a_worker_killed_for_memory_is_replaced_and_named"]),
    5: ("the arbiter is killed", [
        "process/test_arbiter_death.py::test_workers_leave_at_once_and_the_address_is_free"]),
    6: ("TERM under load", ["process/test_stop.py::test_a_stop_under_load_resets_nobody"]),
    7: ("INT twice, QUIT", [
        "process/test_stop.py::test_a_second_one_is_quicker",
        "process/test_stop.py::test_ctrl_c_reaches_everybody_and_nobody_shouts"]),
    8: ("reloads under load", [
        "process/test_reload.py::test_workers_are_replaced_under_load",
        "process/test_chaos.py::test_nothing_is_lost_while_workers_come_and_go"]),
    9: ("a reload with a broken application", [
        "process/test_reload.py::test_a_broken_deploy_under_load_is_not_noticed",
        "arbiter/test_reload.py::test_a_broken_application"]),
    10: ("a reload with an application that hangs", [
        "arbiter/test_reload.py::test_an_application_that_hangs"]),
    11: ("a broken application at the first boot", [
        "arbiter/test_boot.py::test_an_application_that_does_not_load"]),
    12: ("a worker dies at every boot", [
        "faults/test_deaths.py::test_f12_a_worker_that_dies_at_every_boot_is_tried_again_ever_later"]),
    13: ("reloads during reloads", [
        "faults/test_deaths.py::test_f13_a_storm_of_reloads_ends_with_one_generation",
        "arbiter/test_reload.py::test_reloads_during_a_reload"]),
    14: ("a storm of signals", [
        "process/test_storm.py::test_a_short_storm", "process/test_storm.py::test_a_long_storm"]),
    15: ("sys.exit in a request", [
        ("process/test_what_applications_do.py::"
        "test_f15_f16_whatever_the_application_raises_is_a_500_and_the_worker_lives"),
        "process/test_what_applications_do.py::test_f15_an_exit_in_mid_response_looks_cut"]),
    16: ("KeyboardInterrupt and its like in a request", [
        ("process/test_what_applications_do.py::"
        "test_f15_f16_whatever_the_application_raises_is_a_500_and_the_worker_lives")]),
    17: ("a thread that hangs", [
        "process/test_admin.py::test_a_deadlock_of_all_threads_is_told_and_repaired"]),
    18: ("all threads hang", ["process/test_admin.py::test_a_deadlock_of_all_threads_is_told_and_repaired"]),
    19: ("C code holds the GIL", [
        "process/test_recycling.py::test_a_stuck_worker_is_found_dumped_and_replaced_and_gets_nobody_meanwhile"]),
    20: ("the application starts processes", [
        "faults/test_access.py::test_f20_programs_that_the_application_starts_get_no_descriptor_of_ours",
        "faults/test_access.py::test_f20_the_exit_code_of_a_child_of_the_application_is_its_own",
        "system/test_berths.py::test_a_child_of_the_application_leaves_the_listeners_alone"]),
    21: ("hooks that raise", [
        "arbiter/test_server_hooks.py::test_a_wrong_hook_does_not_kill_the_arbiter",
        "arbiter/test_hooks.py::test_what_it_raises_is_logged"]),
    22: ("a pid file of the past", [
        "arbiter/test_boot.py::test_a_pid_file_after_a_kill", "arbiter/test_boot.py::test_a_pid_file"]),
    23: ("many deaths", [
        "faults/test_deaths.py::test_f23_many_deaths_leave_no_zombie",
        "faults/test_deaths.py::test_f23_a_thousand_deaths_leave_no_zombie"]),
    24: ("threads of the application at the end", [
        "faults/test_deaths.py::test_f24_threads_of_the_application_do_not_hold_up_the_end"]),
    25: ("no descriptors left", [
        "process/test_what_applications_do.py::test_f25_no_descriptors_left_pauses_and_recovers",
        "worker/test_overload.py::test_exhaustion_does_not_spin_is_logged_once_and_ends"]),
    26: ("accept fails in every way", [
        "faults/test_nth_call_fails.py::test_the_nth_call_of_a_worker_fails",
        "faults/test_nth_call_fails.py::test_the_nth_call_of_a_worker_fails_in_every_way"]),
    27: ("no more threads", ["faults/test_surroundings.py::test_f27_no_more_threads_means_fewer_threads"]),
    28: ("a full disk", [
        ("faults/test_surroundings.py::"
        "test_f28_a_full_disk_costs_what_does_not_fit_into_memory_and_nothing_else"),
        "logs/test_served.py::test_a_full_disk_costs_lines_and_no_requests"]),
    29: ("standard error that nobody reads, or has", [
        "logs/test_served.py::test_a_standard_error_that_nobody_reads_stops_nobody",
        "logs/test_served.py::test_a_standard_error_whose_reader_is_gone_stops_nobody"]),
    30: ("logs are moved, cut, or lose their directory", [
        "faults/test_surroundings.py::test_f30_a_log_that_is_cut_or_whose_directory_is_gone_stops_nobody",
        "logs/test_served.py::test_usr1_reopens_both_logs_in_every_process"]),
    31: ("log lines longer than PIPE_BUF", [
        "faults/test_surroundings.py::test_f31_lines_longer_than_a_pipe_takes_at_once_are_never_mixed"]),
    32: ("the wall clock jumps", [
        "faults/test_surroundings.py::test_f32_the_wall_clock_jumps_and_only_the_date_follows"]),
    33: ("everybody is stopped for a while", [
        ("faults/test_deaths.py::"
        "test_f33_everybody_stopped_for_longer_than_the_timeout_is_no_reason_to_kill")]),
    34: ("no place for temporary files", [
        "faults/test_surroundings.py::test_f34_without_a_place_for_temporary_files_the_server_serves"]),
    35: ("a dead DNS", ["faults/test_surroundings.py::test_f35_no_name_is_looked_up_for_a_request"]),
    36: ("resets at every point", [
        "faults/test_clients.py::test_f36_a_reset_at_every_byte_of_a_request_leaves_nothing",
        "faults/test_clients.py::test_f36_a_reset_within_a_response_closes_its_iterable",
        "faults/test_clients.py::test_f36_a_reset_after_the_answer_leaves_nothing"]),
    37: ("a client closes its half", [
        "worker/test_slow_clients.py::test_half_closed_client_gets_its_answer"]),
    38: ("a client does not read", [
        "worker/test_slow_clients.py::test_reader_that_stops_is_cut_and_holds_no_thread"]),
    39: ("heads that drip", [
        "worker/test_slow_clients.py::test_head_that_drips_is_cut_by_the_absolute_deadline",
        ("process/test_what_applications_do.py::"
        "test_f38_f39_hundreds_that_neither_finish_nor_read_stop_nobody")]),
    40: ("bodies that drip", ["worker/test_slow_clients.py::test_body_that_drips_is_cut_by_its_rate"]),
    41: ("ten thousand idle connections", "perf/slow.py --scenario idle: minutes"),
    42: ("a request meets the keep-alive time-out", [
        ("faults/test_clients.py::"
        "test_f42_a_request_that_meets_the_time_out_is_answered_or_was_never_read")]),
    43: ("EAGAIN, EINTR and short writes at each call", [
        "faults/test_nth_call_fails.py::test_the_nth_call_of_a_worker_fails_in_every_way",
        "faults/test_nth_call_fails.py::test_a_call_says_that_there_is_nothing_out_of_season"]),
    44: ("a file becomes shorter while it is sent", [
        "faults/test_clients.py::test_f44_a_file_that_becomes_shorter_or_is_closed"]),
    45: ("TLS clients that stall; TLS to a plain port", [
        "faults/test_clients.py::test_f45_tls_to_a_plain_port_gets_400_or_an_end"]),
    46: ("a broken certificate at a reload", "this version does not speak TLS"),
    47: ("TLS without its end", "this version does not speak TLS"),
    48: ("more clients than the backlog holds", [
        "faults/test_clients.py::test_f48_more_clients_than_the_backlog_holds_are_all_answered"]),
    49: ("a worker leaves connections in its queue", [
        "process/test_accepting.py::test_what_waits_in_the_queues_survives_the_death_of_all_workers"]),
    50: ("a unix socket's file is stale, gone, or another's", [
        "arbiter/test_boot.py::test_a_unix_socket",
        "system/test_listeners.py::test_a_unix_socket_is_one_shared_listener"]),
    51: ("systemd: activation, notification", [
        "process/test_upgrade.py::test_systemd_is_told_who_the_main_process_is"]),
    52: ("an upgrade whose successor fails", [
        "process/test_upgrade.py::test_a_successor_that_cannot_start_changes_nothing",
        "process/test_upgrade.py::test_a_successor_that_is_killed_changes_nothing"]),
    53: ("max_requests under load", [
        "process/test_handover.py::test_recycled_workers_keep_every_connection"]),
    54: ("an hour of the bad-case catalogue", "perf/abuse.py --duration 3600: an hour"),
    55: ("many names of one hash", ["faults/test_clients.py::test_f55_a_hundred_names_and_no_more"]),
    56: ("a tenth of a processor", [
        "faults/test_deaths.py::test_f56_a_worker_with_a_tenth_of_a_processor_is_not_killed"]),
    57: ("one worker takes everything", [
        "faults/test_surroundings.py::test_f57_kept_connections_are_spread_over_workers",
        "process/test_accepting.py::test_burst_of_kept_connections_is_spread_evenly"]),
    58: ("a mistake in the deployment", [
        "arbiter/test_boot.py::test_an_address_in_use",
        "system/test_listeners.py::test_a_privileged_port_is_told_as_such",
        "app/test_command.py::test_all_mistakes_are_reported_at_once_with_exit_code_2"]),
    59: ("two requests in one TLS record", "this version does not speak TLS"),
    60: ("a fork while threads run", [
        "faults/test_deaths.py::test_f60_locks_that_threads_held_at_the_fork_are_free_in_the_workers"]),
}  # fmt: skip
