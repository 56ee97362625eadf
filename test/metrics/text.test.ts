import { expect, test } from 'vitest';
import { single } from '../../src/metrics/family.ts';
import { textOf } from '../../src/metrics/text.ts';

test('label values and help texts cannot break out of their line or their quotes', () => {
  const text = textOf([
    {
      name: 'held',
      kind: 'gauge',
      help: 'One\nline with a \\.',
      samples: [{ labels: { application: 'a"b\\c\nd\ud800' }, value: 1.5 }],
    },
  ]);
  expect(text).toBe(
    '# HELP held One\\nline with a \\\\.\n# TYPE held gauge\nheld{application="a\\"b\\\\c\\nd\ufffd"} 1.5\n',
  );
});

test('infinite and unknown values have the names that Prometheus reads', () => {
  const values = [Infinity, -Infinity, NaN];
  const families = values.map((value) => single('gauge', 'x', 'X.', value));
  expect(textOf(families).match(/^x .*$/gm)).toEqual(['x +Inf', 'x -Inf', 'x NaN']);
});

test('a family whose value is not known has a type and no sample', () => {
  expect(textOf([single('counter', 'x_total', 'X.', null)])).toBe('# HELP x_total X.\n# TYPE x_total counter\n');
});
