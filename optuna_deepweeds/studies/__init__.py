"""Studies: specification, storage, creation and resumption, the worker loop and launchers."""
