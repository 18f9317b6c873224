//! Bytes into pictures: sniffing, decoding, de-identification, archives, windowing, preparation.
