"""What holds for every test of the repository."""

import hypothesis

# A loaded machine is no fault: no test asserts how long something takes.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
