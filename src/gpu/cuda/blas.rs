//! Products by cuBLAS.

use crate::gpu::device::{Gemm, Matrix};
use crate::gpu::element::int;
use crate::gpu::error::{GpuError, Result};
use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t,
    cublasSetMathMode, cublasSetWorkspace_v2, cudaDataType,
};
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use std::ffi::c_void;

/// Bytes of working memory. With one of our own, on one stream, the same product gives the same bits in every run.
pub(super) const WORKSPACE: usize = 32 << 20;

/// cuBLAS on one stream.
pub(super) struct Blas(cublasHandle_t);

fn failed(error: CublasError) -> GpuError {
    GpuError::Request(format!("cublas: {:?}", error.0))
}

impl Blas {
    /// # Safety
    /// Stream and workspace are of the current context and live longer.
    #[expect(unsafe_code, reason = "calls of cuBLAS")]
    pub(super) unsafe fn new(stream: CUstream, workspace: CUdeviceptr) -> Result<Self> {
        let blas = Self(result::create_handle().map_err(failed)?);
        let math = cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle is new; stream and workspace are the caller's promise.
        unsafe {
            result::set_stream(blas.0, stream.cast()).map_err(failed)?;
            let at = workspace as *mut c_void;
            cublasSetWorkspace_v2(blas.0, at, WORKSPACE)
                .result()
                .map_err(failed)?;
            cublasSetMathMode(blas.0, math).result().map_err(failed)?;
        }
        Ok(blas)
    }

    /// # Safety
    /// `gemm` has no fault, and its memory is of this device.
    #[expect(unsafe_code, reason = "calls of cuBLAS")]
    pub(super) unsafe fn gemm(&self, gemm: &Gemm) -> Result<()> {
        let (m, n, k) = gemm.shape;
        if m == 0 || n == 0 {
            return Ok(());
        }
        let at = |matrix: &Matrix| matrix.region.at as *mut c_void;
        // cuBLAS thinks in columns: our c (m, n) by rows is its transpose, the product of b's and a's transposes. What
        // we store without transposing is a transpose to it already.
        // SAFETY: the caller's promise.
        let done = unsafe {
            result::gemm_ex(
                self.0,
                operation(&gemm.b),
                operation(&gemm.a),
                int(n),
                int(m),
                int(k),
                (&raw const gemm.alpha).cast(),
                at(&gemm.b),
                kind(&gemm.b),
                int(gemm.b.stride),
                at(&gemm.a),
                kind(&gemm.a),
                int(gemm.a.stride),
                (&raw const gemm.beta).cast(),
                at(&gemm.c),
                kind(&gemm.c),
                int(gemm.c.stride),
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        done.map_err(failed)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls of cuBLAS")]
        // SAFETY: made by `new`, and given back once.
        let closed = unsafe { result::destroy_handle(self.0) };
        if let Err(e) = closed {
            tracing::debug!("cublas: {:?}", e.0);
        }
    }
}

fn operation(matrix: &Matrix) -> cublasOperation_t {
    if matrix.transposed {
        cublasOperation_t::CUBLAS_OP_T
    } else {
        cublasOperation_t::CUBLAS_OP_N
    }
}

fn kind(matrix: &Matrix) -> cudaDataType {
    if matrix.half {
        cudaDataType::CUDA_R_16BF
    } else {
        cudaDataType::CUDA_R_32F
    }
}
