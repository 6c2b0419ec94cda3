/**
 * Those that go on from what is typed, in the order in which they were said; if there are none, all.
 *
 * @param items - what matches what is typed; labels may have it in `<mark>`
 * @param order - all labels, the likeliest first
 */
export function ranked<T extends { label: string }>(
  items: T[],
  order: string[],
  typed: string
): T[] {
  const plain = (item: T): string => item.label.replace(/<\/?mark>/g, '');
  const place = new Map(order.map((label, index) => [label, index]));
  const start = typed.toLowerCase();
  const fitting = items.filter(each => plain(each).toLowerCase().startsWith(start));
  return (fitting.length ? fitting : items)
    .slice()
    .sort((a, b) => (place.get(plain(a)) ?? 0) - (place.get(plain(b)) ?? 0));
}
