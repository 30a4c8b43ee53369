"""hopproxy between real clients and real origins."""
