"""`python -m optuna_deepweeds` is the command `optuna-deepweeds`."""

from optuna_deepweeds.cli import main

if __name__ == "__main__":
    main()
