"""`python -m saliencykit` and the command `saliencykit`: Ctrl-C is one line, during imports too."""

import sys

try:
    from saliencykit.cli.main import main
except KeyboardInterrupt:
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    main()
