// What can be measured of a page's looks: the contrast of every text, what lies beyond the screen, what short cell is broken.

() => {
  const rgba = (text) => {
    const found = text.match(/[0-9.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((one, i) => one * a + below[i] * (1 - a));

  function ancestors(element) {
    const found = [];
    for (let one = element; one; one = one.parentElement) found.push(one);
    return found;
  }

  function ground(element) {
    const layers = ancestors(element).map((one) => rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  }

  // Relative luminance, as WCAG 2 defines it.
  function light(colour) {
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  const contrasts = [];
  function look(element, style, text) {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return;
    const [r, g, b, a] = rgba(style.color);
    const shade = ancestors(element).reduce((all, one) => all * Number(getComputedStyle(one).opacity), a);
    const back = ground(element);
    const [high, low] = [light(over([r, g, b, shade], back)), light(back)].sort((x, y) => y - x);
    contrasts.push([(high + 0.05) / (low + 0.05), `${element.tagName} ${text}`]);
  }

  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const [parent, text] = [node.parentElement, node.data.trim()];
    if (text && !parent.closest("option, noscript, .unseen")) look(parent, getComputedStyle(parent), text);
  }
  for (const one of document.querySelectorAll("select, input:not([type=checkbox], [type=file])")) {
    look(one, getComputedStyle(one), one.id);
  }
  for (const one of document.querySelectorAll("td, li")) {
    const before = getComputedStyle(one, "::before");
    if (before.content !== "none") look(one, before, before.content);
  }

  const edge = document.documentElement.clientWidth + 0.5;
  const beyond = [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > edge && !one.closest(".scroll, .unseen"))
    .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 60)}`);

  const broken = [...document.querySelectorAll("th, td")].filter((cell) => {
    if (cell.querySelector("details[open]") || cell.textContent.length > 40 || !cell.checkVisibility()) return false;
    const range = document.createRange();
    range.selectNodeContents(cell);
    const tops = [...range.getClientRects()].filter((one) => one.width).map((one) => one.top);
    return Math.max(...tops) - Math.min(...tops) > 12;
  }).map((cell) => cell.textContent);

  return { contrasts, width: document.documentElement.scrollWidth, beyond, broken };
}
