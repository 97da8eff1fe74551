"""The wire's vocabulary: grammars, ranges and manifests, with input nobody sends by accident."""
