"""The demo: the server's main job through its HTTP API, checked from outside."""
