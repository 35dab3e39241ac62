import { RUNTIME_VERSION } from "../../../runtime/mod.ts";

/** A published Python wheel of which some libraries are taken. Nothing of it is executed, and Python is not needed. */
export interface CudaWheel {
  readonly project: string;
  readonly version: string;
  readonly file: string;
  /** Of the wheel, lower-case hex, as the index published it when it was chosen. */
  readonly sha256: string;
  /** Base names of the libraries. */
  readonly members: RegExp;
}

/**
 * The CUDA provider of the pinned runtime, and what it loads: CUDA 13.0, cuDNN 9. NVIDIA's are the versions that PyTorch
 * 2.11 requires, on which docs/gpu.md's figures were measured.
 */
export const CUDA_WHEELS: readonly CudaWheel[] = [
  {
    project: "onnxruntime-gpu",
    version: RUNTIME_VERSION,
    file: "onnxruntime_gpu-1.30.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    sha256: "6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1",
    members: /^libonnxruntime_providers_(?:shared|cuda)\.so$/,
  },
  {
    project: "nvidia-cuda-runtime",
    version: "13.0.96",
    file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    members: /^libcudart\.so\.13$/,
  },
  {
    project: "nvidia-cublas",
    version: "13.1.0.3",
    file: "nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
    sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    members: /^libcublas(?:Lt)?\.so\.13$/,
  },
  {
    project: "nvidia-curand",
    version: "10.4.0.35",
    file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
    sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    members: /^libcurand\.so\.10$/,
  },
  {
    // cuDNN compiles some of its kernels with it.
    project: "nvidia-cuda-nvrtc",
    version: "13.0.88",
    file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
    sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    members: /^libnvrtc(?:-builtins)?\.so\.13(?:\.0)?$/,
  },
  {
    project: "nvidia-cudnn-cu13",
    version: "9.19.0.56",
    file: "nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
    sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    members: /^libcudnn(?:_\w+)?\.so\.9$/,
  },
];
