"""Reading torch modules: feature maps, classifier heads, partial networks, fast copies."""
