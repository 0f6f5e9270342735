"""The mutating admission webhook: a pod comes in, a patch goes out. Start at `webhook.mutate`."""
