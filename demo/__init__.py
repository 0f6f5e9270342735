"""`make demo`: plays the kubelet for one pod on this machine, and counts its lines."""
