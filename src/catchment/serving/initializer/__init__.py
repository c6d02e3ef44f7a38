"""What runs in a pod before the model server: fetch the model by digest and lay it out for the runtime."""
