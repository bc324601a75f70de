#pragma once

#include <type_traits>

// Lists of functors. A template that is instantiated in one file for all functors of a list requires a
// `Listed` functor, so that the use of one that is missing is a compile-time error and not a link error.
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
