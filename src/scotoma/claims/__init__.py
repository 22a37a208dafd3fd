"""Claims as files, and gates: rules that an audit passes, fails or leaves undecided."""
