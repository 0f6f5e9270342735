"""The doctor: looks at each link between `kubectl apply` and an injected pod, from outside."""
