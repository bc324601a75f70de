#include "kernels/cases/table.h"

#include <fmt/format.h>

namespace tutti::cases {

Input normal(Shape shape, double deviation) {
  return {.shape = std::move(shape), .high = deviation};
}

Input uniform(Shape shape, double low, double high) {
  return {.shape = std::move(shape), .draw = Input::Draw::kUniform, .low = low, .high = high};
}

Input two_sided(Shape shape, double low, double high) {
  return {.shape = std::move(shape), .draw = Input::Draw::kTwoSided, .low = low, .high = high};
}

Input integers(Shape shape, int64_t low, int64_t high, DType dtype) {
  return {.shape = std::move(shape),
          .draw = Input::Draw::kIntegers,
          .low = static_cast<double>(low),
          .high = static_cast<double>(high),
          .dtype = dtype,
          .differentiable = false};
}

Input with_ties(Shape shape, int64_t low, int64_t high) {
  return {.shape = std::move(shape),
          .draw = Input::Draw::kIntegers,
          .low = static_cast<double>(low),
          .high = static_cast<double>(high)};
}

Input not_differentiable(Input input) {
  input.differentiable = false;
  return input;
}

std::string shapes_text(std::span<const Input> inputs) {
  std::string text;
  for (const Input& input : inputs) text += (text.empty() ? "" : " ") + to_string(input.shape);
  return text;
}

std::string size_text(const Shape& shape) {
  std::string text;
  for (const int64_t n : shape) text += text.empty() ? fmt::format("{}", n) : fmt::format(" x {}", n);
  return text;
}

OpCase make_case(std::string_view op, std::vector<Input> inputs, Apply apply) {
  OpCase row;
  row.op = op;
  row.what = shapes_text(inputs);
  row.inputs = std::move(inputs);
  row.apply = std::move(apply);
  return row;
}

std::vector<OpCase> op_cases() {
  Rows rows;
  add_pointwise_rows(rows);
  add_activation_rows(rows);
  add_reduce_rows(rows);
  add_shape_rows(rows);
  add_norm_rows(rows);
  add_batch_norm_rows(rows);
  add_dense_rows(rows);
  add_loss_rows(rows);
  add_sequence_rows(rows);
  add_image_rows(rows);
  return rows;
}

std::vector<TimedCase> timed_cases(const KernelSizes& sizes, double element_bytes) {
  TimedRows rows;
  for (const auto add : {add_timed_pointwise, add_timed_activations, add_timed_dropout, add_timed_norms,
                         add_timed_lookups, add_timed_losses, add_timed_batch_norm, add_timed_pools,
                         add_timed_dense, add_timed_attention, add_timed_convolutions})
    add(rows, sizes, element_bytes);
  return rows;
}

}  // namespace tutti::cases
