"""One file per system: how its blocks are wired."""
