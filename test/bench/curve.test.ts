import { describe, expect, it } from 'vitest';
import { againstNLogN, exponentOfNLogN, fittedExponent, type Point } from '../../bench/support/measure/curve.ts';

const sizes = [10, 100, 1_000, 10_000];
const grown = (by: (n: number) => number): Point[] => sizes.map((n) => ({ n, ms: by(n) }));

describe('curve', () => {
  it.each([
    [0, () => 7],
    [1, (n: number) => 0.3 * n],
    [2, (n: number) => n * n],
  ])('growth with the power %d is found whatever the constant', (exponent, by) => {
    expect(fittedExponent(grown(by))).toBeCloseTo(exponent, 6);
  });

  it('n log n lies between linear and quadratic, and fits itself', () => {
    const points = grown((n) => 2 * n * Math.log(n));
    expect(fittedExponent(points)).toBeCloseTo(exponentOfNLogN(points), 6);
    expect(exponentOfNLogN(points)).toBeGreaterThan(1.1);
    expect(exponentOfNLogN(points)).toBeLessThan(1.3);
  });

  it('a quadratic step is told apart from n log n', () => {
    const [, hundred, thousand] = grown((n) => n * n) as [Point, Point, Point];
    expect(againstNLogN(hundred, thousand)).toBeGreaterThan(6);
    const [, low, high] = grown((n) => n * Math.log(n)) as [Point, Point, Point];
    expect(againstNLogN(low, high)).toBeCloseTo(1, 6);
  });

  it('one size alone has no exponent, and so never passes for one', () => {
    expect(fittedExponent([{ n: 10, ms: 1 }])).toBeNaN();
  });
});
