#pragma once

#include <type_traits>

// Lists of the functors that kernels are made from. A template that is compiled in one file, for a list,
// takes a `Listed` functor: one that is missing is an error where it is used, not at link time.
namespace tutti::row {

template <class... Functors>
struct FunctorList {};

namespace detail {

template <class Functor, class... Functors>
constexpr bool contains(FunctorList<Functors...>) {
  return (std::is_same_v<Functor, Functors> || ...);
}

}  // namespace detail

template <class Functor, class List>
concept Listed = detail::contains<Functor>(List());

}  // namespace tutti::row
