import { expect, test } from 'vitest';
import { pageOf, type Page } from '../../../src/broker/pages/paging.ts';
import { limits } from '../../../src/limits/limits.ts';

interface Entry {
  readonly name: string;
  readonly number: number;
}

/** Builds entries, and counts how many. */
class List {
  built = 0;
  readonly bytes: number;

  constructor(bytes = 1) {
    this.bytes = bytes;
  }

  page(items: readonly Entry[], size: number, token = ''): Page<string> {
    return pageOf(
      {
        items,
        keyOf: ({ name, number }) => [name, number],
        entryOf: ({ name, number }) => {
          this.built++;
          return name + String(number);
        },
        bytesOf: () => this.bytes,
      },
      { size, token },
    );
  }

  /** All pages, one after the other. */
  pages(items: readonly Entry[], size: number): (readonly string[])[] {
    const pages: (readonly string[])[] = [];
    for (let token: string | null = ''; token !== null;) {
      const page = this.page(items, size, token);
      pages.push(page.items);
      token = page.nextToken === '' ? null : page.nextToken;
    }
    return pages;
  }
}

const entries = (...names: string[]): Entry[] =>
  names.map((name) => ({ name: name[0]!, number: Number(name.slice(1)) }));
const many = Array.from({ length: 100_000 }, (_, at) => ({
  name: `t${100 + Math.floor(at / 1_000)}`,
  number: at % 1_000,
}));

test('the pages of a list show each item once, with numbers in the order of numbers and not of texts', () => {
  const items = entries('a2', 'a10', 'b1', 'b9', 'b11');
  expect(new List().pages(items, 2)).toEqual([['a2', 'a10'], ['b1', 'b9'], ['b11']]);
  expect(new List().pages(items, 5)).toEqual([['a2', 'a10', 'b1', 'b9', 'b11']]);
  expect(new List().pages([], 5)).toEqual([[]]);
});

test('items that come and go between two pages neither repeat nor hide others', () => {
  const { nextToken } = new List().page(entries('a1', 'b1', 'c1', 'd1'), 2);
  expect(new List().page(entries('a0', 'a1', 'c1', 'd1'), 2, nextToken).items).toEqual(['c1', 'd1']);
  expect(new List().page(entries('b2', 'c1'), 2, nextToken).items).toEqual(['b2', 'c1']);
  expect(new List().page(entries('a1'), 2, nextToken)).toEqual({ items: [], nextToken: '' });
});

test('a page ends at the bytes of a message, but an entry larger than that does not stop the list', () => {
  const half = new List(limits.pageBytesMax / 2);
  expect(half.pages(entries('a1', 'b1', 'c1'), 10)).toEqual([['a1', 'b1'], ['c1']]);
  const whole = new List(limits.pageBytesMax + 1);
  expect(whole.pages(entries('a1', 'b1'), 10)).toEqual([['a1'], ['b1']]);
});

test('a page in the middle of 100,000 items builds its own entries only', () => {
  const list = new List();
  const { items, nextToken } = list.page(many, 100, 't150~499');
  expect([items[0], items.at(-1), nextToken]).toEqual(['t150500', 't150599', 't150~599']);
  expect(list.built).toBe(100);
});

test('a token that no page ended with leads to the end and not to the beginning again', () => {
  expect(new List().page(many, 10, 't150~x').items[0]).toBe('t1510');
  expect(new List().page(many, 10, 'u').items).toEqual([]);
});
