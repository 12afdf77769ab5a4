"""The commands of `mmjax`; `mmjax/cli.py` parses the command line."""
