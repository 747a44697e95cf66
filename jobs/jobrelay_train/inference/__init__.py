"""What eval and infer need beside the model: inputs, pictures, times, exports."""
