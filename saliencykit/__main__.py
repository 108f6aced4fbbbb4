"""`python -m saliencykit`."""

from saliencykit.cli.main import main

if __name__ == "__main__":
    main()
