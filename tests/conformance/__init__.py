"""The wire rules of a reverse proxy as black-box tests: for hopproxy, and for any other."""
