"""`python -m nnunetv2_gsp`: the same as `nnUNetv2_gsp`."""

from nnunetv2_gsp.cli import main

if __name__ == "__main__":
    main()
