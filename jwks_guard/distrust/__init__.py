"""Which keys are distrusted: the state, the register of a process, and its journal file."""
