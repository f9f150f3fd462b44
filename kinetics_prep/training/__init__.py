"""The bundled trainer: from prepared folders to trained models. It meets the pipeline on disk alone."""
