import { describe, expect, it } from 'vitest';
import { Report } from '../../bench/support/report.ts';
import { formatNumber, renderTable } from '../../bench/support/table.ts';

describe('report', () => {
  it('a figure that could not be measured never passes', () => {
    const report = new Report(() => undefined);
    report.atLeast('rate', 1, NaN, 'msg/s');
    report.atMost('memory', 512, NaN, 'MiB');
    expect(report.checks.map((check) => check.pass)).toEqual([false, false]);
  });

  it('a target that is met exactly passes, on either side', () => {
    const report = new Report(() => undefined);
    report.atLeast('rate', 100, 100, 'msg/s');
    report.atMost('memory', 512, 512, 'MiB');
    report.atLeast('rate', 100, 99.9, 'msg/s');
    expect(report.checks.map((check) => check.pass)).toEqual([true, true, false]);
  });

  it('the JSON names every column of every row', () => {
    const report = new Report(() => undefined);
    report.section('Rates', ['groups', 'msg/s'], [[4, 50_000]], ['a note']);
    expect(JSON.parse(report.toJson({ seed: 1 }))).toEqual({
      seed: 1,
      sections: [{ title: 'Rates', notes: ['a note'], rows: [{ groups: 4, 'msg/s': 50_000 }] }],
      checks: [],
    });
  });
});

describe('table', () => {
  it('numbers stand to the right, and a missing one does not move the columns', () => {
    const table = renderTable(
      ['what', 'msg/s'],
      [
        ['raw', 1_234_567],
        ['gRPC', null],
      ],
    );
    expect(table).toBe(['what      msg/s', '----  ---------', 'raw   1,234,567', 'gRPC          -'].join('\n'));
  });

  it.each([
    [0.123456, '0.123'],
    [12.345, '12.3'],
    [1_234.5, '1,235'],
    [7, '7'],
    [NaN, '-'],
  ])('%d is shown as %s', (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });
});
