import { expect, test } from 'vitest';
import { StopSignals } from '../../src/server/stop-signals.ts';

type Heard = readonly [
  atMs: number,
  signal: Parameters<StopSignals['heard']>[0],
  action: ReturnType<StopSignals['heard']>,
];

test.each<[string, readonly Heard[]]>([
  ['every signal drains, when it is the first', [[0, 'SIGTERM', 'drain']]],
  ['Ctrl-C drains', [[0, 'SIGINT', 'drain']]],
  ['a terminal that is closed drains', [[0, 'SIGHUP', 'drain']]],
  [
    'a Ctrl-C that npm passes on does not skip the drain',
    [
      [1_000, 'SIGINT', 'drain'],
      [1_001, 'SIGINT', 'nothing'],
      [1_499, 'SIGINT', 'nothing'],
    ],
  ],
  [
    'a second Ctrl-C a second later ends it',
    [
      [0, 'SIGINT', 'drain'],
      [1_000, 'SIGINT', 'exit'],
    ],
  ],
  [
    'repeats do not put off the moment from which a signal ends it',
    [
      [0, 'SIGTERM', 'drain'],
      [400, 'SIGTERM', 'nothing'],
      [500, 'SIGTERM', 'exit'],
    ],
  ],
  [
    'another signal is a second request, however soon',
    [
      [0, 'SIGTERM', 'drain'],
      [10, 'SIGINT', 'exit'],
    ],
  ],
  [
    'a session that ends sends SIGTERM and SIGHUP, in either order',
    [
      [0, 'SIGTERM', 'drain'],
      [1, 'SIGHUP', 'nothing'],
    ],
  ],
  [
    'and so the other way round',
    [
      [0, 'SIGHUP', 'drain'],
      [1, 'SIGTERM', 'nothing'],
      [2_000, 'SIGHUP', 'nothing'],
      [2_001, 'SIGTERM', 'exit'],
    ],
  ],
])('%s', (_what, heard) => {
  const signals = new StopSignals();
  expect(heard.map(([atMs, signal]) => signals.heard(signal, atMs))).toEqual(heard.map(([, , action]) => action));
});
