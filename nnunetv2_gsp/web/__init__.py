"""Makes a page that segments images in a browser, offline: a trained model, ONNX Runtime's web build and NiiVue."""
