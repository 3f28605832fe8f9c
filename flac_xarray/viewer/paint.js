// Numbers to colours: one tile to one image of the same size.

/**
 * Paint a tile.
 * layers: {numbers, parts, nodata} of one or three colours, whose void pixels are transparent, then perhaps one of opacity.
 * style: {ranges: [[low, high], ...], colors: 768 bytes} for one layer, {ranges} for three, {table} for classes.
 */
export function paint(layers, nColors, style, width, height) {
  const image = new ImageData(width, height);
  const out = image.data;
  const colors = layers.slice(0, nColors);
  if (style.table) paintTable(layers[0].numbers, style.table, out);
  else if (nColors === 1) paintRamp(layers[0].numbers, style.ranges[0], style.colors, out);
  else colors.forEach(({ numbers }, c) => paintChannel(numbers, style.ranges[c], out, c));
  for (const layer of colors) hideVoid(layer, out);
  for (const { numbers, parts } of layers.slice(nColors)) fade(numbers, parts, out);
  return image;
}

/** Factor and start of a stretch; where low is high everything is in the middle. */
function stretch([low, high]) {
  return high > low ? { low, factor: 256 / (high - low) } : { low: low - 0.5, factor: 256 };
}

function paintRamp(numbers, range, colors, out) {
  const { low, factor } = stretch(range);
  for (let i = 0, o = 0; i < numbers.length; i++, o += 4) {
    const t = (numbers[i] - low) * factor;
    const k = 3 * (t > 255 ? 255 : t > 0 ? t | 0 : 0);
    out[o] = colors[k];
    out[o + 1] = colors[k + 1];
    out[o + 2] = colors[k + 2];
    out[o + 3] = 255;
  }
}

function paintChannel(numbers, range, out, channel) {
  const { low, factor } = stretch(range);
  for (let i = 0, o = channel; i < numbers.length; i++, o += 4) {
    const t = (numbers[i] - low) * factor;
    out[o] = t > 255 ? 255 : t > 0 ? t | 0 : 0;
    if (channel === 0) out[o + 3] = 255;
  }
}

/** Values without a colour are transparent. */
function paintTable(numbers, table, out) {
  for (let i = 0, o = 0; i < numbers.length; i++, o += 4) {
    const k = 4 * numbers[i];
    if (k < 0 || k >= table.length) continue;
    for (let c = 0; c < 4; c++) out[o + c] = table[k + c];
  }
}

/** Opacity is full where all bits of an alpha band's value are set, 255 in a mask. */
function fade(numbers, parts, out) {
  const most = parts.BYTES_PER_ELEMENT === 2 ? 65535 : 255;
  for (let i = 0, o = 3; i < numbers.length; i++, o += 4) out[o] *= Math.max(0, Math.min(1, numbers[i] / most));
}

function hideVoid({ numbers, parts, nodata }, out) {
  for (let i = 0, o = 3; i < numbers.length; i++, o += 4) {
    if (numbers[i] !== numbers[i] || (nodata !== null && parts[i] === nodata)) out[o] = 0;
  }
}
