"""`python -m saliencykit`."""

from saliencykit.cli import main

if __name__ == "__main__":
    main()
