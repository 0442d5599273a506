"""A model behind HTTP: photos in, joints out (docs/serve.md). Needs the extra `serve`."""
