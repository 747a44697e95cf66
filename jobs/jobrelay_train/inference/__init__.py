"""What eval and infer need in addition to the model: inputs, pictures, timings, exports."""
