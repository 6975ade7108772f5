"""Several workers of one study: as processes of this machine, or by Ray or Slurm."""
