-- From the parts of a document (filter.lua) to HTML. Raw HTML does not get through: what stands in a
-- document is text.

local function raw(text) return pandoc.RawBlock("html", text) end

local function numbered(div, tag, word, class)
  local caption = pandoc.List { pandoc.RawInline("html", "<b>" .. word .. " " .. div.attributes.number .. ".</b> ") }
  caption:extend(div.content[1].content[1].content)
  return raw(string.format('<%s id="%s" class="%s">', tag, div.identifier, class)),
    { raw("<figcaption>"), pandoc.Plain(caption), raw("</figcaption>") }
end

local function figure(div)
  local open, caption = numbered(div, "figure", "Figure", "figure")
  local out = pandoc.List { open, div.content[2] }
  out:extend(caption)
  out:insert(raw("</figure>"))
  return out
end

local function tabular(div)
  local open, caption = numbered(div, "figure", "Table", "table")
  local out = pandoc.List { open }
  out:extend(caption)
  out:extend { raw('<div class="scroll">'), div.content[2], raw("</div></figure>") }
  return out
end

local function equation(div)
  return {
    raw(string.format('<div class="equation" id="%s"><div class="scroll">', div.identifier)),
    pandoc.Plain(div.content[1].content),
    raw(string.format('</div><span class="number">(%s)</span></div>', div.attributes.number)),
  }
end

local PARTS = { figure = figure, table = tabular, equation = equation }

function Pandoc(doc)
  doc = doc:walk {
    RawInline = function() return {} end,
    RawBlock = function() return {} end,
    Header = function(header)
      header.level = header.level + 1
      header.attributes = {}
      return header
    end,
    Table = function(grid) -- A browser finds the widths by itself.
      grid.colspecs = pandoc.List(grid.colspecs):map(function(spec) return { spec[1], nil } end)
      grid.attributes, grid.classes = {}, {}
      return grid
    end,
  }
  return doc:walk {
    Div = function(div)
      local made = PARTS[div.classes[1]]
      return made and made(div) or nil
    end,
  }
end
