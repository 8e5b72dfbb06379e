"use strict";
(() => {
  const ratio = v => (v >= 0 ? `${+(2 ** v).toFixed(2)}:1` : `1:${+(2 ** -v).toFixed(2)}`);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const wholes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000, 1000000];
  const shown = v => (v == null ? "–" : v.toLocaleString("en", { maximumSignificantDigits: 4 }));
  let plots = [];
  let zooming = false;

  // All charts of a page have one horizontal axis: what one is zoomed to, all are.
  const zoomAll = (from, scale) => {
    if (scale !== "x" || zooming) return;
    zooming = true;
    const { min, max } = from.scales.x;
    plots.filter(plot => plot !== from).forEach(plot => plot.setScale("x", { min, max }));
    zooming = false;
  };

  const shade = data => plot => {
    const fill = ([from, to], colour) => {
      const { left, top, width, height } = plot.bbox;
      const [begin, end] = [from, to].map(x => Math.min(Math.max(plot.valToPos(x, "x", true), left), left + width));
      plot.ctx.fillStyle = css(colour);
      plot.ctx.fillRect(begin, top, end - begin, height);
    };
    if (data.shaded) fill(data.shaded, "--shade");
    data.marked.forEach(part => fill(part, "--marked"));
  };

  const axis = more => ({
    stroke: css("--soft"),
    grid: { stroke: css("--rule"), width: 1 },
    ticks: { stroke: css("--rule"), width: 1 },
    font: "12px system-ui, sans-serif",
    ...more,
  });

  const draw = (box, data) => {
    const value = data.ratio ? v => (v == null ? "–" : ratio(v)) : shown;
    const vertical = data.ratio
      ? { splits: plot => [-3, -2, -1, 0, 1, 2, 3].filter(v => v >= plot.scales.y.min && v <= plot.scales.y.max), values: (_, all) => all.map(ratio) }
      : { values: (_, all) => all.map(shown), ...(data.whole ? { incrs: wholes } : {}) };
    // The last one is drawn on top.
    const lines = [...data.lines].reverse();
    const series = lines.map(line => ({
      label: line.name,
      stroke: css(`--line-${line.colour}`),
      width: line.bold ? 2.4 : 1.6,
      dash: line.dashed ? [6, 4] : [],
      paths: line.steps ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear(),
      points: { show: line.x.length < 2 },
      value: (_, v) => value(v),
    }));
    const range = (_, min, max) => {
      if (data.ratio) return [Math.min(-1, min ?? 0) - 0.2, Math.max(1, max ?? 0) + 0.2];
      const top = max == null || max <= (data.bottom ?? -Infinity) ? (data.bottom ?? 0) + 1 : max;
      if (data.bottom == null) return uPlot.rangeNum(min ?? 0, top, 0.1, true);
      return [data.bottom, Math.max(data.whole ? Math.ceil(top) + 0.5 : top + 0.06 * (top - data.bottom), data.bottom + (data.whole ? 1.5 : 1e-6))];
    };
    const plot = new uPlot(
      {
        width: box.clientWidth,
        height: 220,
        scales: { x: { time: false }, y: { range } },
        series: [{ label: "at", value: (_, v) => (v == null ? "–" : `${v.toFixed(data.xUnit === "s" ? 0 : 2)} ${data.xUnit}`) }, ...series],
        axes: [axis({ values: (_, all) => all.map(v => `${shown(v)} ${data.xUnit}`), space: 70 }), axis({ size: 56, ...vertical })],
        cursor: { sync: { key: "page" }, focus: { prox: 24 }, drag: { x: true, y: false } },
        focus: { alpha: 0.35 },
        legend: { live: true },
        hooks: { drawClear: [shade(data)], setScale: [zoomAll] },
      },
      lines.length ? uPlot.join(lines.map(line => [line.x, line.y])) : [[]],
      box,
    );
    // In the order of the page, the place of the cursor last.
    const names = [...plot.root.querySelectorAll(".u-legend .u-series")];
    names.forEach((name, index) => { name.style.order = index ? names.length - index : names.length; });
    return plot;
  };

  const drawAll = () => {
    plots.forEach(plot => plot.destroy());
    plots = [...document.querySelectorAll(".chart")].map(part => {
      const box = part.querySelector(".plot");
      box.replaceChildren();
      return draw(box, JSON.parse(part.querySelector("script").textContent));
    });
    showChosen();
  };

  const showChosen = () => {
    for (const input of document.querySelectorAll(".boxes input"))
      for (const plot of plots)
        plot.series.forEach((line, index) => {
          if (index && line.label === input.dataset.name && line.show !== input.checked) plot.setSeries(index, { show: input.checked });
        });
  };

  document.querySelectorAll(".boxes input").forEach(input => input.addEventListener("change", showChosen));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = 0;
  new ResizeObserver(() => {
    if (width === document.body.clientWidth) return;
    width = document.body.clientWidth;
    plots.forEach(plot => plot.setSize({ width: plot.root.parentNode.clientWidth, height: 220 }));
  }).observe(document.body);
  drawAll();
})();
