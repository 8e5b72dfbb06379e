"""The custom resources (`dopd.dev/v1alpha1`) and the names they are known by."""
