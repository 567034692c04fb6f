"use strict";

// The exact binomial interval (Clopper and Pearson 1934), as wbctool/stages/differential.py computes it with scipy.
const Binomial = (() => {
  const LANCZOS = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];

  // ln Γ(x) for x ≥ 1 (Lanczos 1964, g = 7, nine terms).
  function lnGamma(x) {
    const z = x - 1, t = z + 7.5;
    const sum = LANCZOS.slice(1).reduce((total, c, i) => total + c / (z + i + 1), LANCZOS[0]);
    return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
  }

  // The continued fraction of the incomplete beta function, by Lentz's method (Press et al., Numerical Recipes, 6.4).
  function continuedFraction(a, b, x) {
    const tiny = 1e-300;
    const guard = (value) => (Math.abs(value) < tiny ? tiny : value);
    let c = 1, d = 1 / guard(1 - ((a + b) * x) / (a + 1)), h = d;
    for (let m = 1; m <= 10000; m++) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / guard(1 + even * d);
      c = guard(1 + even / c);
      h *= d * c;
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / guard(1 + odd * d);
      c = guard(1 + odd / c);
      h *= d * c;
      if (Math.abs(d * c - 1) < 1e-15) break;
    }
    return h;
  }

  // The regularized incomplete beta function I_x(a, b), for a, b ≥ 1.
  function cumulative(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    const front = Math.exp(lnGamma(a + b) - lnGamma(a) - lnGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
    return x < (a + 1) / (a + b + 2) ? (front * continuedFraction(a, b, x)) / a : 1 - (front * continuedFraction(b, a, 1 - x)) / b;
  }

  // The x with I_x(a, b) = p, by bisection, which always converges.
  function quantile(p, a, b) {
    let low = 0, high = 1;
    for (let i = 0; i < 200 && high - low > 1e-16 * high; i++) {
      const middle = (low + high) / 2;
      if (cumulative(middle, a, b) < p) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  // [low, high] in percent of n out of total > 0.
  function interval(n, total, confidence = 0.95) {
    const tail = (1 - confidence) / 2;
    return [
      n === 0 ? 0 : 100 * quantile(tail, n, total - n + 1),
      n === total ? 100 : 100 * quantile(1 - tail, n + 1, total - n),
    ];
  }

  // Rounds to one decimal as Python's format does: a value exactly between two goes to the even one.
  function oneDecimal(value) {
    const quarters = value * 4;
    if (!Number.isInteger(quarters) || quarters % 2 === 0) return value.toFixed(1);
    const below = Math.floor(value * 10);
    return ((below % 2 === 0 ? below : below + 1) / 10).toFixed(1);
  }

  return { interval, oneDecimal };
})();
