"""Parts of networks (torch): layers, backbones, necks, heads. Systems put them together."""
