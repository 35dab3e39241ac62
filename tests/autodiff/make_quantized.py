#!/usr/bin/env python3
"""Writes foreign/quantized_*.onnx, quantized operators in the forms that ONNX Runtime's quantizer and optimizer write (zero
points without an axis; operators of com.microsoft), and foreign/half_maxpool.onnx, a maximum over overlapping windows in
float16 with PyTorch's gradient of it in float64. Values are ONNX Runtime's, which the test asks itself.
Needs onnx, torch and safetensors."""
import os
import numpy as np, onnx, torch
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from safetensors.numpy import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")
rng = np.random.default_rng(5)
f32 = lambda v: np.array(v, np.float32)
u8 = lambda v: np.array(v, np.uint8)


def write(name, nodes, stored, x, y_shape, facts=lambda x, cotangent: {}):
    graph = h.make_graph(nodes, name, [h.make_tensor_value_info("x", T.FLOAT, x.shape)], [h.make_tensor_value_info("y", T.FLOAT, y_shape)],
                         [nh.from_array(np.asarray(v), k) for k, v in stored.items()])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("com.microsoft", 1)], ir_version=8)
    onnx.save(model, f"{OUT}/{name}.onnx")
    cotangent = rng.standard_normal(y_shape).astype(np.float32)
    tensors = {"in.x": x, "cotangent": cotangent, **facts(x, cotangent)}
    save_file(tensors, f"{OUT}/{name}.safetensors")


x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
kernel = rng.integers(-90, 90, (4, 3, 3, 3)).astype(np.int8)
ends = dict(s=f32(.03), z=u8(120), t=f32(.05), o=u8(128))
quantize = lambda a, b: h.make_node("QuantizeLinear", [a, "s", "z"], [b])
write("quantized_conv", [
    quantize("x", "q"),
    h.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "t", "o", "bias"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    h.make_node("DequantizeLinear", ["c", "t", "o"], ["y"]),
], dict(ends, w=kernel, ws=f32(.01), wz=np.array(0, np.int8), bias=rng.integers(-400, 400, 4).astype(np.int32)), x, (1, 4, 8, 8))
write("quantized_conv_integer", [
    h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
    h.make_node("ConvInteger", ["q", "w", "z", "wz"], ["c"], kernel_shape=[3, 3]),
    h.make_node("Cast", ["c"], ["f"], to=T.FLOAT),
    h.make_node("Mul", ["f", "s"], ["y"]),
], dict(w=rng.integers(60, 190, (4, 3, 3, 3)).astype(np.uint8), wz=u8(128)), x, (1, 4, 6, 6))
ms = dict(domain="com.microsoft")
write("quantized_microsoft", [
    quantize("x", "q"),
    h.make_node("QLinearAveragePool", ["q", "s", "z", "t", "o"], ["p"], kernel_shape=[2, 2], strides=[2, 2], **ms),
    h.make_node("QLinearLeakyRelu", ["p", "t", "o", "t", "o"], ["l"], alpha=.2, **ms),
    h.make_node("QLinearWhere", ["mask", "l", "t", "o", "p", "t", "o", "t", "o"], ["m"], **ms),
    h.make_node("Flatten", ["m"], ["v"]),
    h.make_node("QGemm", ["v", "t", "o", "g", "gs", "gz", "bias", "t", "o"], ["h"], transB=1, alpha=.5, **ms),
    h.make_node("QLinearSoftmax", ["h", "t", "o", "p1", "p0"], ["e"], axis=-1, opset=17, **ms),
    h.make_node("DequantizeLinear", ["e", "p1", "p0"], ["y"]),
], dict(ends, mask=rng.random((1, 3, 4, 4)) < .5, g=rng.integers(-50, 50, (6, 48)).astype(np.int8), gs=f32(rng.random(6) * .01 + .01),
        gz=np.zeros(6, np.int8), bias=rng.integers(-300, 300, 6).astype(np.int32), p1=f32(1 / 256), p0=u8(0)), x, (1, 6))


def pooled(x, cotangent):
    wide = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    torch.nn.functional.max_pool2d(wide, 3, 1).backward(torch.from_numpy(cotangent.astype(np.float64)))
    return {"grad.x": wide.grad.numpy().astype(np.float32)}


halves = x.astype(np.float16).astype(np.float32)
write("half_maxpool", [h.make_node("Cast", ["x"], ["a"], to=T.FLOAT16), h.make_node("MaxPool", ["a"], ["m"], kernel_shape=[3, 3]),
                       h.make_node("Cast", ["m"], ["y"], to=T.FLOAT)], {}, halves, (1, 3, 6, 6), pooled)
